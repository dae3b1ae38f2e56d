"""What operations cost here, measured by the functions that trainings call; called, the package measures:
`counterpoint.calibrate(file)`."""

from counterpoint.callable import make_callable

make_callable(__name__, "counterpoint.api:calibrate")
