"""The sampler: factors, screen, exact draw and gather; :mod:`.sampler` is where to begin."""
