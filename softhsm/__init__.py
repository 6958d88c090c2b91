"""How a SoftHSM token is made for development, tests and the demo."""
