"""The search for a layout: what may vary, which of it cannot win, and what the clock says of the rest.

Called, the package searches: `counterpoint.search(config, world_size=64)`.
"""

from counterpoint.callable import make_callable

make_callable(__name__, "counterpoint.api:search")
