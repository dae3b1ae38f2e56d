"""Names and shapes of all parameters of a config's models as large as they are, without values."""

import torch

from counterpoint.families.parts import parts_of
from counterpoint.models.chain import build_chain
from counterpoint.plan.trainability import is_trained
from counterpoint.setup.run import build_models
from tests.golden.cases import Config
from tests.golden.digest import digest
from tests.golden.written import Golden


def full_parameters(config: Config) -> dict[str, Golden]:
    """Of every module the parameters and buffers, in their order."""
    found = {}
    for module, model in build_models(config).items():
        with torch.device("meta"):
            chain = build_chain(parts_of(model))
        train = config.modules[module].train
        buffers = dict(chain.named_buffers())
        for name, tensor in chain.state_dict().items():
            trained = name not in buffers and is_trained(name, train if isinstance(train, str) else tuple(train))
            found[f"{module}.{name}"] = f"{tuple(tensor.shape)} {'trained' if trained else 'kept'}"
    return {"full models": {"order": digest(" ".join(found)), **found}}
