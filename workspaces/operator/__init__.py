"""The operator: decides (pure), reconciles one workspace, and sweeps all of them."""
