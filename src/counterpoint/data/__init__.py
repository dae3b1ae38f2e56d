"""From pictures and text to the rows of a step: preparing, the order of data, and what each rank reads."""
