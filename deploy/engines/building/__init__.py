"""What engines are built with: shapes, the child process and what it does, the checks of what came out, the files."""
