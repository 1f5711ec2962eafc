# As much of an application of Rails as the proxy of docs/operator-hosts.md needs.
require "json"
require "rack"
Credentials = Struct.new(:threadline_secret)
Application = Struct.new(:credentials)
Rails = Struct.new(:application).new(Application.new(Credentials.new(SECRET)))
User = Struct.new(:id, :name, :organization_id)
Warden = Struct.new(:user)
