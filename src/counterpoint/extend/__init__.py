"""What a plug-in is made of, before torch: all names here are public, and stay as they are within a minor version.

Content of items and documents is handled with `counterpoint.extend.data`, models are built with
`counterpoint.extend.models`; both load torch. docs/extending.md says how they go together.
"""

from counterpoint.errors import ConfigError, CounterpointError, DataError
from counterpoint.families.encoder import (
    EncoderSection,
    projector_cuts,
    projector_facts,
    projector_problems,
    projector_rules,
)
from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.family import Ends, Family, ModelSection
from counterpoint.kinds.layer import LayerKind, LayerSection
from counterpoint.kinds.modality import (
    Drawing,
    Extent,
    Form,
    Intake,
    ItemSection,
    Modality,
    PartForm,
    Payload,
    Placed,
    Scalar,
    Small,
)
from counterpoint.kinds.projector import ProjectorFacts, ProjectorKind, ProjectorSection
from counterpoint.kinds.rules import Initial, Role, TensorRule
from counterpoint.layers.normed import NormedSection, kept_by_norms, with_norms
from counterpoint.losses.kind import ItemLoss, LossSection, ScoreLoss, TargetSection
from counterpoint.optimizers.kind import GroupSection, OptimizerKind, OptimizerSection
from counterpoint.optimizers.rates import LearningRateSection, RateKind
from counterpoint.plan.action import Action, Compute, Reduce, Work
from counterpoint.plan.cost import ALL, CAUSAL, Mask
from counterpoint.plan.graph import Node
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER, PartFacts, light
from counterpoint.plan.schedule import Schedule, ScheduleKind, distribute
from counterpoint.plan.stages import Stages
from counterpoint.plan.tensors import Tensors, joined, linear, mlp, norm, products
from counterpoint.plugins.plugin import Plugin
from counterpoint.projectors import ProjectorConfig
from counterpoint.recorders.kind import Record, Recorder, RecorderKind, RecorderSection, Recording
from counterpoint.recorders.metric import LoggedStep, Metric
from counterpoint.recorders.numbers import numbers_of
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import (
    Count,
    Counts,
    Index,
    NonNegative,
    Patterns,
    Positive,
    Section,
    Several,
    Share,
    Text,
)
from counterpoint.sources.entry import Entry, EntrySection, Opening

__all__ = [
    "ALL",
    "CAUSAL",
    "ENCODER_LAYER",
    "Action",
    "Compute",
    "ConfigError",
    "Count",
    "CounterpointError",
    "Counts",
    "Cuts",
    "DataError",
    "Drawing",
    "EncoderSection",
    "Ends",
    "Entry",
    "EntrySection",
    "Extent",
    "Family",
    "Form",
    "GroupSection",
    "Index",
    "Initial",
    "Intake",
    "ItemLoss",
    "ItemSection",
    "Keeps",
    "Kept",
    "LayerKind",
    "LayerSection",
    "LayoutConfig",
    "LearningRateSection",
    "LoggedStep",
    "LossSection",
    "Mask",
    "Metric",
    "Modality",
    "ModelFacts",
    "ModelSection",
    "Node",
    "NonNegative",
    "NormedSection",
    "Opening",
    "OptimizerKind",
    "OptimizerSection",
    "PartFacts",
    "PartForm",
    "Patterns",
    "Payload",
    "Placed",
    "Plugin",
    "Positive",
    "Problem",
    "ProjectorConfig",
    "ProjectorFacts",
    "ProjectorKind",
    "ProjectorSection",
    "RateKind",
    "Record",
    "Recorder",
    "RecorderKind",
    "RecorderSection",
    "Recording",
    "Reduce",
    "Role",
    "Scalar",
    "Schedule",
    "ScheduleKind",
    "ScoreLoss",
    "Section",
    "Several",
    "Share",
    "Small",
    "Stages",
    "TargetSection",
    "TensorRule",
    "Tensors",
    "Text",
    "Work",
    "distribute",
    "joined",
    "kept_by_norms",
    "light",
    "linear",
    "mlp",
    "norm",
    "numbers_of",
    "products",
    "projector_cuts",
    "projector_facts",
    "projector_problems",
    "projector_rules",
    "show",
    "with_norms",
]
