"""Update rules: from a parameter and its gradient to the next parameter."""
