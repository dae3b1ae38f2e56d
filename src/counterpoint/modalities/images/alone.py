"""One image alone, for the reference of verify: written apart from how images are laid beside others."""

import numpy as np
import torch

from counterpoint.errors import RunError
from counterpoint.modalities.alone import Alone
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.models.batch import NO_PREFIX, PatchBatch
from counterpoint.models.segments import Segments, Windows


def image_alone(payload: PatchPayload, intake: ImageIntake, dtype: torch.dtype) -> Alone:
    """An image after the learned rows of its encoder, which fill whole merge groups from the end; raises RunError if
    the image itself has no whole groups."""
    (height, width), merge = payload.grid, intake.merge
    if height % merge or width % merge:
        raise RunError(
            f"an image became {height}x{width} patches, expected whole groups of {merge}x{merge} by the config; what "
            "makes patches differs"
        )
    cells = [
        (top + y, left + x)
        for top in range(0, height, merge)
        for left in range(0, width, merge)
        for y in range(merge)
        for x in range(merge)
    ]
    lead = 0
    while lead < intake.prefix:
        lead += merge * merge
    rows = lead + len(cells)
    places = torch.tensor([(0, 0)] * lead + cells)
    patches = torch.zeros((rows, intake.columns), dtype=dtype)
    patches[lead:] = torch.from_numpy(np.asarray(payload.patches))
    prefix = [NO_PREFIX] * (lead - intake.prefix) + list(range(intake.prefix)) + [NO_PREFIX] * len(cells)
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (y, x) in enumerate(cells if intake.window else ()):
        groups.setdefault((y // intake.window, x // intake.window), []).append(lead + row)
    batch = PatchBatch(
        patches=patches,
        coordinates=places,
        grids=torch.tensor([(1, 1)] * lead + [(height, width)] * len(cells)),
        prefix=torch.tensor(prefix),
        places=places,
        segments=Segments.build((rows - lead + intake.prefix,), rows, starts=(lead - intake.prefix,)),
        windows=Windows.build([torch.tensor(group) for group in groups.values()]),
        images=((lead, height, width),),
    )
    return Alone(batch, lead // merge**2, (height // merge, width // merge))
