"""Local tensors as blocks of global tensors: the only form in which checkpoints and DCP's planners see layouts."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from counterpoint.parallelize.blocks import Block


class StoredBlock:
    """A local tensor, and its block of the global tensor."""

    def __init__(self, block: Block, tensor: torch.Tensor) -> None:
        self._block, self._tensor = block, tensor

    @property
    def global_shape(self) -> tuple[int, ...]:
        """The shape of the global tensor."""
        return self._block.global_shape

    @property
    def tensor(self) -> torch.Tensor:
        """The local tensor without padding."""
        return self._tensor[tuple(slice(0, extent) for extent in self._block.shape)]

    def staged(self) -> "StoredBlock":
        """A copy in CPU memory, independent of training."""
        return StoredBlock(self._block, self._tensor.detach().to("cpu", copy=True))

    @property
    def chunk(self) -> ChunkStorageMetadata:
        """Offset and size of the block in the global tensor, in DCP's terms."""
        return ChunkStorageMetadata(torch.Size(self._block.offset), torch.Size(self._block.shape))

    def write_item(self, key: str) -> WriteItem:
        """The WriteItem with which DCP writes it."""
        properties = TensorProperties.create_from_tensor(self._tensor)
        data = TensorWriteData(self.chunk, properties, torch.Size(self.global_shape))
        return WriteItem(MetadataIndex(key, self.chunk.offsets), WriteItemType.SHARD, tensor_data=data)


Tensors = Mapping[str, StoredBlock]


class BlockSavePlanner(DefaultSavePlanner):
    """Plans the blocks of all ranks; a block that several ranks hold is written once."""

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([block.write_item(key) for key, block in self.state_dict.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        tensor: torch.Tensor = self.state_dict[index.fqn].tensor
        return tensor


class BlockLoadPlanner(DefaultLoadPlanner):
    """Fills blocks from all stored blocks that overlap them, so that any layout can read any other layout's files."""

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None, "DCP hands the metadata to set_up_planner"
        stored: dict[str, Any] = self.metadata.state_dict_metadata
        return LoadPlan(
            [
                item
                for key, block in self.state_dict.items()
                for item in create_read_items_for_chunk_list(key, stored[key], [block.chunk])
            ]
        )

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        tensor: torch.Tensor = self.state_dict[index.fqn].tensor
        return tensor
