"""The manager's pure core: events in, records and effects out."""
