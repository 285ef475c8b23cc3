"""How the card does it: launchers for the kernels in kernels/*.cu, found by the same family name as the definitions."""
