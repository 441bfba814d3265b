"""The project's benchmark: dbcore beside its peers and beside the least that a correct pool could do. `make bench`."""
