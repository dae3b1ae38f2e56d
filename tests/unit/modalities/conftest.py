"""Pictures, clips and small indexes to test with."""

from tests.unit.items import emoji as emoji
from tests.unit.items import make_clip as make_clip
from tests.unit.items import make_index as make_index
from tests.unit.items import make_picture as make_picture
