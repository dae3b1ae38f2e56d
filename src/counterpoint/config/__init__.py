"""The YAML schema: strict, frozen, one home; importing it loads neither torch nor pyarrow."""

from counterpoint.config.checks import check_files
from counterpoint.config.keys import is_known, known_keys
from counterpoint.config.load import dump_config, load_config
from counterpoint.config.megatron import megatron_hint
from counterpoint.config.schema import Config

__all__ = ["Config", "check_files", "dump_config", "is_known", "known_keys", "load_config", "megatron_hint"]
