"""The promises, one module for each area."""
