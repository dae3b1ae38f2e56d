"""The module that worker processes fork from: it has imported all that a rank needs."""

import counterpoint.data.feed.reader
import counterpoint.run
import counterpoint.setup.rank  # noqa: F401
