//! The fault suite in its short form: every scenario, a few faults each.

use end_to_end::faults;

async fn hold(name: &str) -> anyhow::Result<()> {
    let scenarios = faults::all();
    let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
    let row = faults::run(scenario, scenario.brief, false).await?;
    assert!(row.holds(), "{}", faults::report::table(&[row]));
    Ok(())
}

macro_rules! scenarios {
    ($($test:ident = $name:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $test() -> anyhow::Result<()> {
            hold($name).await
        })*

        #[test]
        fn every_scenario_of_the_long_form_is_tested_here() {
            let here = [$($name),*];
            let all: Vec<&str> = faults::all().iter().map(|scenario| scenario.name).collect();
            assert_eq!(here[..], all[..]);
        }
    };
}

scenarios! {
    publishers_killed_at_random_lose_nothing = "publisher killed";
    consumers_killed_at_random_lose_nothing = "consumer killed";
    a_publisher_that_dies_at_any_named_place_loses_nothing = "publisher dies at a named place";
    a_consumer_that_dies_at_any_named_place_loses_nothing = "consumer dies at a named place";
    a_clock_that_is_off_by_minutes_changes_nothing = "clock off by minutes";
    a_broker_that_is_killed_loses_nothing = "broker killed";
    databases_that_are_killed_lose_nothing = "databases killed";
    a_cluster_that_loses_its_leader_continues = "cluster loses its leader";
    every_link_may_be_cut_delayed_silenced_or_forgotten = "network";
    running_out_of_connections_charges_nobody = "no connection left";
    a_locked_timeline_charges_nobody = "timeline locked";
    a_deadlock_charges_nobody = "deadlock";
    a_full_stream_is_back_pressure_and_not_loss = "stream full";
    a_transaction_held_open_delays_only_itself = "transaction held open";
    what_is_repeated_after_the_duplicate_window_lands_once = "repeated after the duplicate window";
    an_administrators_hand_on_the_stream_loses_nothing = "stream deleted or purged, durable deleted";
}
