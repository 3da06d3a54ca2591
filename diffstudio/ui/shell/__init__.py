"""Services that no room owns: model library, downloads, run monitor, sleep inhibitor, single instance."""
