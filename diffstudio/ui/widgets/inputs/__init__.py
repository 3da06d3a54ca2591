"""Controls that hold a value. Each emits a signal when the user changes the value, but not when the program sets it."""
