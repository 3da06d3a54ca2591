"""What belongs to no room: model library, downloads, run monitor, sleep inhibitor, single instance."""
