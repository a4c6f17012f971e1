"""Work that is done item by item, for all stages: in this process, on the cores of this host, or on a Ray cluster."""
