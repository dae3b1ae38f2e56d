"""The time and memory that a plan would take, without torch: on a clock of given costs, and from given sizes.

Called, the package plays the clock: `counterpoint.simulate(plan)`.
"""

from counterpoint.callable import make_callable

make_callable(__name__, "counterpoint.simulate.clock:simulate")
