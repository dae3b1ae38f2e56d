"""The names that plug-ins are made of, which nothing adds to or takes from by accident."""

import subprocess
import sys

import counterpoint.extend
import counterpoint.extend.data
import counterpoint.extend.models

SPECS = {
    "ALL", "Action", "CAUSAL", "Compute", "ConfigError", "Count", "CounterpointError", "Counts", "Cuts",
    "DataError", "Drawing", "ENCODER_LAYER", "EncoderSection", "Ends", "Entry", "EntrySection", "Extent",
    "Family", "Form",
    "GroupSection", "Index", "Initial", "Intake", "ItemLoss", "ItemSection", "Keeps", "Kept",
    "LayerKind", "LayerSection",
    "LayoutConfig", "LearningRateSection", "LoggedStep", "LossSection", "Mask", "Metric", "Modality", "ModelFacts",
    "ModelSection", "Node", "NonNegative", "NormedSection", "Opening", "OptimizerKind", "OptimizerSection",
    "PartFacts", "PartForm", "Patterns", "Payload", "Placed", "Plugin", "Positive", "Problem", "ProjectorConfig",
    "ProjectorFacts", "ProjectorKind", "ProjectorSection", "RateKind", "Record", "Recorder", "RecorderKind",
    "RecorderSection", "Recording", "Reduce", "Role", "Scalar", "Schedule", "ScheduleKind", "ScoreLoss", "Section",
    "Several", "Share", "Small", "Stages", "TargetSection", "TensorRule", "Tensors", "Text", "Work", "distribute",
    "joined", "kept_by_norms", "light", "linear", "mlp", "norm", "numbers_of", "products", "projector_cuts",
    "projector_facts", "projector_problems", "projector_rules", "show", "with_norms",
}  # fmt: skip
DATA = {
    "Alone", "Bucket", "CUT_TARGETS", "Census", "DECLARED", "Document", "EMPTY", "FeatureBatch", "GivenBatch",
    "Item", "ItemBatch", "Laid", "Lane", "NO_LABEL", "NO_TARGET", "NO_TOKEN", "Own", "Rows", "Sampled", "Segments",
    "Source", "TOO_LARGE", "TOO_SHORT", "TextBatch", "TextPayload", "UNFIT", "WithTargets", "lay_items", "lay_text",
    "text_rows",
}  # fmt: skip
MODELS = {
    "Batch", "Chain", "ChannelSum", "Earlier", "Enter", "Fusible", "Layer", "LayerNorm", "Leave", "Linear", "Mix",
    "Mlp", "OutputLinear", "OwnChannels", "OwnShare", "Part", "Piece", "Projector", "RmsNorm", "RowsEnter",
    "RowsLeave", "ScalingUpdate", "Shard", "Spread", "Team", "Trade", "Update", "WholeLane", "Wide", "build_chain",
    "merge_patches", "mlp_of", "norm_of", "norms_of", "projector_part", "widened",
}  # fmt: skip


def test_public_names() -> None:
    assert set(counterpoint.extend.__all__) == SPECS
    assert set(counterpoint.extend.data.__all__) == DATA
    assert set(counterpoint.extend.models.__all__) == MODELS


def test_specs_are_made_without_torch() -> None:
    code = "import sys, counterpoint.extend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
