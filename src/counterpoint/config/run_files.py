"""Files of a run folder that are written in one place and read in another."""

CONFIG_FILE = "config.yaml"
PLAN_FILE = "plan.json"
EVALUATION_FILE = "evaluation.json"
TIMELINE_FILE = "timeline.json"
VERSIONS_FILE = "versions.json"
ERROR_FILE = "error.json"
BASES_FILE = "bases.json"
