"""Model providers: one small file each, all speaking `Provider`."""
