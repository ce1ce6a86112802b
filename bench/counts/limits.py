"""Numbers that both sides of the count share."""

WARM_UP = 20  # calls: CPython specialises an instruction after 8 to 16
FEW, MANY = 10, 60  # calls of the two counts
# Where an attribute is looked up, CPython's cache of 4,096 places is found by the address of its name and the number of
# its type. Two that meet there cost each other some hundred instructions a call, which the code did not bring: seen as
# +3.2 % of one path in one folder and not in another. So every path is counted behind so many idle types, and the
# smallest count is its own: a meeting only adds.
IDLE_TYPES = (0, 7, 60)
