"""The Train room: start training runs and follow their loss and samples."""
