"""Hot paths for the tests of counting."""
