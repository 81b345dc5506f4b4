"""How clients keep to time limits and outlive outages of the broker."""
