"""How good, how diverse and how original generated images are: measures on features [N,D], which know no folders."""
