"""What a person does with a bus by hand: scan it, watch it, explain it, record it, measure it."""
