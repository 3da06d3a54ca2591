"""The Models room: the model files in the folders, their details, and the weight tools."""
