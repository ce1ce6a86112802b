"""The workstation's side of `edgevla deploy`: SSH, delta transfer by content, preflight, and the order of the steps."""
