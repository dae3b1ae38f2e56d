"""Faults of plug-ins: how they are named, loaded and told apart, and what runs and checkpoints say of them."""

from tests.mutation.mutant import Mutant

_LOADED = ("tests/unit/plugins/test_load.py",)
_DRAWN = ("tests/unit/verify/test_draw.py",)
_RUNS = ("tests/unit/plugins/test_run_folder.py",)
_RANKS = ("tests/unit/train/test_versions.py",)

PLUGINS = [
    Mutant("plugins.load:load_plugins", "if name not in _IMPORTED", "if True", _LOADED),
    Mutant("plugins.load:load_plugins", "_check(_IMPORTED[name], at)", "pass", _LOADED),
    Mutant("plugins.load:load_plugins", "        registry.hide(kind_name, kind)", "        pass", _LOADED),
    Mutant("plugins.fits:check_section", "section.model_rebuild()", "pass", _LOADED),
    Mutant("garbage:_Rarity.end", "if not self._inside:", "if True:", ("tests/unit/cli/test_garbage.py",)),
    Mutant("plugins.load:_import", "        registry.hide(kind_name, kind)", "        pass", _LOADED),
    Mutant("setup.run:build_plan", "load_plugins(config.run.plugins)", "pass", _LOADED),
    Mutant("plugins.load:_check", "check_types(plugin, where)", "pass", _LOADED),
    Mutant("plugins.typed:_parts", 'f"[{number}]", entry, of_entry', 'f"[{number}]", entry, Any', _LOADED),
    Mutant("plugins.load:_check", 'check_section(name, section, f"{where}: {sort} {show(name)}")', "pass", _LOADED),
    Mutant("config.load:_load_plugins", '== "run"', '== "running"', _LOADED),
    Mutant("config.schema:_travelled", "load_plugins(plugins)", "pass", _LOADED),
    Mutant("config.load:read_run_config", ", WITHOUT_PLUGINS", "", _LOADED),
    Mutant("section.of_kind:OneOf._check", " and info.context != WITHOUT_PLUGINS", "", _LOADED),
    Mutant("verify.rules:_by_itself", "if step >= curve.warmup_steps else 1.0", "", _LOADED),
    Mutant("verify.draw_optimizers:draw_optimizers",
           '|= OPTIMIZERS[optimizer["kind"]].drawn(generator)', "|= {}", _DRAWN),
    Mutant("verify.draw_optimizers:_draw_schedule", "[*_SCHEDULES, *others]", "_SCHEDULES", _DRAWN),
    Mutant("train.state.resume:_check_plugins", "if name not in now", "if name in now", _RUNS),
    Mutant("train.state.resume:other_versions", "if now[name] != version", "if now[name] == version", _RUNS),
    Mutant("setup.run_folder:_versions", ", **versions_of(config.run.plugins)", "", _RUNS),
    Mutant("report.training:_plan_of", "if written is None", "if True", _RUNS),
    Mutant("train.versions:first_difference", "first.keys() | other.keys()", "first.keys()", _RANKS),
]  # fmt: skip
