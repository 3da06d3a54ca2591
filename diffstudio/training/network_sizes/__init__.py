"""How many parameters and bytes of memory the network of a recipe needs, without building it. No torch."""
