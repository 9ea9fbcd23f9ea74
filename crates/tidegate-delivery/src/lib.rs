//! How delivery flows: changes, deployments, exposures and incidents folded to DORA and flow.
