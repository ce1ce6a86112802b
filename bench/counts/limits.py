"""Numbers that both sides of the count share."""

WARM_UP = 20  # calls: CPython specialises an instruction after 8 to 16
FEW, MANY = 10, 60  # calls of the two counts
