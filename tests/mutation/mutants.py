"""All planted faults."""

from tests.mutation.of_clock import CLOCK
from tests.mutation.of_costs import COSTS
from tests.mutation.of_data import DATA
from tests.mutation.of_import import IMPORT
from tests.mutation.of_plan import CONVERT, INFERENCE, PLAN
from tests.mutation.of_plugins import PLUGINS
from tests.mutation.of_ranks import EXECUTE, PARALLELIZE
from tests.mutation.of_reference import REFERENCE
from tests.mutation.of_search import SEARCH
from tests.mutation.of_train import TRAIN

MUTANTS = [
    *PLAN,
    *DATA,
    *PARALLELIZE,
    *EXECUTE,
    *TRAIN,
    *CONVERT,
    *INFERENCE,
    *REFERENCE,
    *PLUGINS,
    *IMPORT,
    *COSTS,
    *CLOCK,
    *SEARCH,
]
