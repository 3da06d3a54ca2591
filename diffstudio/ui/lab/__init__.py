"""The Lab: measures models and folders of images, in jobs that are processes of their own."""
