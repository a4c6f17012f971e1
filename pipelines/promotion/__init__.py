"""What may become the champion: gates, the paired comparison, the ledger, the registry's aliases, signatures."""
