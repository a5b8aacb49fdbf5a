"""Breaks a Raft key-value store while it is used, and says whether it kept its word."""
