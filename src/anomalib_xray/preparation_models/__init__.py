"""Training of the networks that preparation uses; the steps themselves run without torch."""
