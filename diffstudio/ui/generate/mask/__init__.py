"""The editor of inpaint masks and outpainting margins."""
