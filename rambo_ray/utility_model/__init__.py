"""u_hat: the set network, its losses, its bilevel fit, and how well it ranks."""
