"""Flight records: what a run saw, decided and did, in an MCAP file, and what can be learnt from it afterwards."""
