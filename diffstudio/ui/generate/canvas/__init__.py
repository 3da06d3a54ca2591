"""The image in the middle of the Generate room: the canvas, and the filmstrip of its denoising steps."""
