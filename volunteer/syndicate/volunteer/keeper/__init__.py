"""The keeper: small, root, no gRPC; owns everything that a volunteer has on its host."""
