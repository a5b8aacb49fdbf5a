"""Shows what asynchronous replication costs: stale reads, and acknowledged writes that are lost."""
