"""From a configuration to data, network, weights and plan."""
