"""The portal: workspaces on pages for people. Views make one call into the domain; words live in `words`."""
