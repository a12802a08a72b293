"""E-steps on a graphics processor, with JAX."""
