"""Looking at backpropagation at work, in any module: one iteration step by step, and gradients held to differences."""
