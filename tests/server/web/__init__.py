"""A package, so that what its tests share (`scope="package"`: a browser) ends with the last of them."""
